"""What runs by itself: when it is due, what is made up for, and what a run came to."""
