"""What runs inside the judge's own processes: nothing here imports anything but the standard library."""
