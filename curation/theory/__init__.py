"""Published results on recursive generation as small programs: the replay game, proper generation, and generation chains."""
