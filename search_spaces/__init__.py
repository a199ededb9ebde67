"""What is searched: one define-by-run Optuna space per model, in a file of its name; ``around`` has their ranges."""
