"""Crashes at named points, under load: processes killed there, servers stopped, a worker held up."""
