"""What stands in where nothing can be downloaded: a tiny planner and a drawn tabletop benchmark."""
