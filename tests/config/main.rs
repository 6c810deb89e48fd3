//! Configuration as an operator meets it: what loads, what is refused, and what each refusal says.

mod check;
mod credentials;
mod definitions;
mod faults;
mod kubernetes;
mod need;
mod routes;
mod samples;
mod secrets;
mod settings;
mod shipping;
mod support;
mod watching;
