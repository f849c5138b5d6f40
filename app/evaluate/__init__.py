"""How well models answer: tasks, marks, and runs that are kept and compared."""
