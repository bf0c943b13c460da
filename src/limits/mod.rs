//! Every number with its unit and its reason. Relations between them are checked when compiling.

mod files;
mod http;
mod memory;
mod probe;
mod proxies;
mod relay;
mod tokens;

pub use files::*;
pub use http::*;
pub use memory::*;
pub use probe::*;
pub use proxies::*;
pub use relay::*;
pub use tokens::*;
