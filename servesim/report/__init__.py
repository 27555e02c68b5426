"""What is made of saved results: an HTML page, a timeline, files of other tools."""
