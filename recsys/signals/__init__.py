"""What is known at a day, counted and not learned: of items, and of users' histories."""
