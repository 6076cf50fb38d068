"""Jobs: their states, speed and news."""
