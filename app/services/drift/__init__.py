"""What moved: features of an aligned model beside those of its base."""
