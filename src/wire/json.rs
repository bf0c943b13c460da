//! JSON read strictly: a duplicate key is an error, at any depth.
