"""What every package of Heirloom may import, whichever layer it is in."""
