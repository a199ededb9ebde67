"""The cluster: connecting to Ray, checking its nodes, and counting the places for trials."""
