"""What can be wrong with a deployment: a folder for each hop, in it a module for each family of causes that look alike."""
