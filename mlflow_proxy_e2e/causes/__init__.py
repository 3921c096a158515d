"""What can be wrong with a deployment: a folder for each hop, with a module for each family of causes that look alike."""
