//! The validation service alone, without TLS: `service ADDRESS`. Prints its address once it listens; for benches.

use forklift_validation::{Validator, rest};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, rest::router(Validator::new())).await
}
