"""Published laws of recursive training as small programs: games, chains and refitted toys, numbers in and numbers out."""
