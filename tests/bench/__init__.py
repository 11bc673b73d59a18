"""`make bench`: figures, each beside a floor measured in the same run, because machines differ."""
