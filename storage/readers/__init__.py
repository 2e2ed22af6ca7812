"""Read documents from files, packed files and Hugging Face datasets."""
