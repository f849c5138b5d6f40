"""Evaluation of models on question sets: tasks, marking, stored runs."""
