"""Tools, through both doors."""
