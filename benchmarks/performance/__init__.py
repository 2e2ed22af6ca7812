"""Speed, memory and accuracy beside peers."""
