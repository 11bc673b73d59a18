"""The pages, one module for each. A page reads and changes by operations; what it shows is in `templates/`."""
