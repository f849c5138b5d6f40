"""Story generation: stories of a wanted length, a story bible, paragraph editing, illustrated articles."""
