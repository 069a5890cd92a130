//! What operators do, with the real `atollctl`: looking, collecting, installing.

mod doctor;
mod explain;
mod gc;
mod install;
mod output;
mod role;
mod shapes;
