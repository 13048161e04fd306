"""Dashboards and scrape configuration as data."""
