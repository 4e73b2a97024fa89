"""What several benchmarks share: tasks, the classifier and its judges, fits, tables and pictures."""
