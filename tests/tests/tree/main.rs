//! Checks of the tree itself: what it depends on, which programs it starts, what its pages name. They need no root.

mod declared;
mod dependencies;
mod imports;
mod pages;
mod source;
mod type_names;
