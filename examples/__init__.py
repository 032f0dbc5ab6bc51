"""Programs beside the service, as others would write them. None imports it; all they know of it is what it tells."""
