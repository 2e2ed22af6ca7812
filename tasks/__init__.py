"""Tasks do the verbs: the only place where curation's decisions meet storage, a model or the disk."""
