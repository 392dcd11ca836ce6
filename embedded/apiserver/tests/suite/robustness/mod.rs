//! The server killed at random moments under concurrent writers and watchers, and a checker that decides from what all
//! of them saw whether anything was lost. `DURABILITY_KILLS=1000` runs the full campaign.

mod campaign;
mod checker;
mod history;
mod planted;
