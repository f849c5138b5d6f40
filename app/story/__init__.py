"""Stories of a wanted length, a bible beside them, paragraph by paragraph; illustrated articles."""
