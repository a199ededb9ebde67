"""Where Ray Tune meets Optuna: what is proposed, how trials run, when they are stopped."""
