"""The HTTP edge, one module for each resource.

A resource is a list of routes: plain functions, each declared with what it accepts, returns and refuses. The code that
runs and the content of `/openapi.json` come from the same declaration.
"""
