"""A chain with a module full of bugs, of the kind that only shows when somebody meets it."""
