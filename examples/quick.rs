#![allow(warnings)]
use halfopen::capture::*; use halfopen::time::Timestamp; use halfopen::pipeline::Sensor; use halfopen::config::Config;
use std::time::Instant; use std::sync::Arc;
struct Src { i: u64, n: u64, rate: u64, buf: [u8;60] }
fn mix(mut z:u64)->u64{ z=z.wrapping_add(0x9e3779b97f4a7c15); z=(z^(z>>30)).wrapping_mul(0xbf58476d1ce4e5b9); z=(z^(z>>27)).wrapping_mul(0x94d049bb133111eb); z^(z>>31)}
impl FrameSource for Src {
    #[inline] fn next_event(&mut self)->Result<SourceEvent<'_>,CaptureError>{
        if self.i==self.n {return Ok(SourceEvent::End)}
        let r=mix(self.i); self.i+=1;
        let b=&mut self.buf; b[26]=198; b[27]=18|(r as u8&1); b[28]=(r>>8) as u8; b[29]=(r>>16) as u8; b[34]=(r>>24) as u8; b[35]=(r>>32) as u8; b[38..42].copy_from_slice(&((r>>24) as u32).to_be_bytes());
        Ok(SourceEvent::Frame(Frame{ts:Timestamp::from_nanos(1_700_000_000_000_000_000+(self.i*1_000_000_000/self.rate) as i64),link:LinkType::ETHERNET,orig_len:60,data:&self.buf}))
    }
    fn publish(&mut self){} fn counters(&self)->Vec<Arc<InterfaceCounters>>{vec![]}
}
fn rss()->u64{ std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l|l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()*1024}
fn main(){
    let a:Vec<u64>=std::env::args().skip(1).map(|x|x.parse().unwrap()).collect();
    let (n,rate,cap)=(a[0],a[1],a[2] as usize);
    let mut c=Config::default(); c.table.entries=cap;
    let s=Sensor::repeatable(&c,Box::new(|_|{}));
    let mut buf=[0u8;60]; buf[12]=8; buf[14]=0x45; buf[16]=0; buf[17]=40; buf[23]=6; buf[22]=64; buf[30..34].copy_from_slice(&[192,0,2,1]); buf[36]=0; buf[37]=80; buf[46]=0x50; buf[47]=2;
    let r0=rss(); let t=Instant::now();
    s.run_source(Src{i:0,n,rate,buf}).unwrap();
    let e=t.elapsed();
    use halfopen::report::snapshot::SnapshotSource; let sn=s.snapshot(); let h=sn.handshakes;
    println!("{:.1} ns/frame open {} untracked {} closed {:?} bytes/entry {:.1} reckoned {:.1} emerg {}", e.as_nanos() as f64/n as f64, h.open_syn_sent, h.untracked, h.closed, (rss()-r0) as f64/h.open_syn_sent as f64, sn.table.bytes as f64/h.open_syn_sent as f64, sn.table.emergencies);
}
