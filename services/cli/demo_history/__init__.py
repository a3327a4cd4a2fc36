"""The history of a Kronos demo's page, as its git repository keeps it: `repository` reads pages, `page` reads figures."""
