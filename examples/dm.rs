#![allow(warnings)]
use dashmap::DashMap; use ahash::RandomState; use std::time::Instant;
fn mix(mut z:u64)->u64{ z=z.wrapping_add(0x9e3779b97f4a7c15); z=(z^(z>>30)).wrapping_mul(0xbf58476d1ce4e5b9); z=(z^(z>>27)).wrapping_mul(0x94d049bb133111eb); z^(z>>31)}
fn main(){
 for shards in [64usize,1024,4096] {
  let m:DashMap<[u32;3],[u32;5],RandomState>=DashMap::with_capacity_and_hasher_and_shard_amount(0,RandomState::with_seeds(1,2,3,4),shards);
  let n=5_000_000u64;
  let t=Instant::now(); for i in 0..n { let r=mix(i); m.insert([r as u32 & 0x1ffff, 7, (r>>32) as u32],[1;5]); } let a=t.elapsed();
  let t=Instant::now(); let mut c=0; for i in 0..n { let r=mix(i); if m.get(&[r as u32 & 0x1ffff, 7, (r>>32) as u32]).is_some(){c+=1} } let b=t.elapsed();
  let t=Instant::now(); for i in 0..n { let r=mix(i); m.remove_if_mut(&[r as u32 & 0x1ffff, 7, (r>>32) as u32],|_,v|{v[0]=2;false}); } let d=t.elapsed();
  println!("shards {shards}: insert {} get {} visit {} ns ({c})",a.as_nanos() as u64/n,b.as_nanos() as u64/n,d.as_nanos() as u64/n);
 }
}
