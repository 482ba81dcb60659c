"""Exchange of models, records and boards with the Hugging Face hub, through `huggingface_hub`."""
