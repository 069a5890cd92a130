//! Records as other versions of Atoll have written them.

mod versions;
