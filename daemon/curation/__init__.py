"""What people do with stored samples: label, shortlist, trace and purge them."""
