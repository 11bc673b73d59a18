"""What went wrong elsewhere (FAILURES), and what is done to make it go wrong here."""
