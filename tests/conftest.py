from hypothesis import settings

# A deadline would measure the machine's load.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
