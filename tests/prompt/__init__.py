"""The prompt, from the files of a workspace."""
