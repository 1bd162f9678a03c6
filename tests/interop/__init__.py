"""File locks beside other programs: the programs, the measuring of who excludes whom, and the page that tells it."""
