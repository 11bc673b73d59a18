"""The agent: pure choice of batches, its files, and the real process on a bare session folder."""
