"""The search: Optuna proposes and prunes trials, Ray Tune runs them."""
