//! The work of operators, with the real `atollctl`.

mod doctor;
mod explain;
mod gc;
mod install;
mod output;
mod role;
mod shapes;
