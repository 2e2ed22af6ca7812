"""Published results on recursive generation as programs: replay game, proper generation, generation chains."""
