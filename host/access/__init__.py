"""Who may speak, who may decide, and what is asked of those who may."""
