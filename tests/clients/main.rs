//! The same client programs on both servers: what people see must not tell the two apart.
//!
//! Each program (kubectl with a script of commands, a client-go program, one in Python, one with kube-rs) prints what
//! it saw; names and times that differ by nature are replaced, the rest is compared line by line. A place where the
//! servers are known to differ is marked in the script with its reason; a mark without a difference fails.

mod kube_rs;
mod kubectl;
mod normalise;
mod programs;
mod servers;
