"""What a model's forward becomes: recorded once as a graph, checked, rounded like the IPU rounds, cut into stages."""
