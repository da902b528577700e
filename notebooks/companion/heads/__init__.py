"""What label-aug is compared with: the methods of the paper's tables, its neighbours, and other estimators."""
