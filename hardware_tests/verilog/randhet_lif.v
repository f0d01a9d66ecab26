// One core of random-decay leaky integrate-and-fire neurons: NEURONS of them, one after another, behind one shift
// register. No multiplier: the decay is read bit by bit.
//
//     x = sat24((a << F) + b)                       a: synaptic sum, b: bias
//     m = x + ((A * (m - x)) >> K)                  A: table[draw], K bits
//     s = 1 where m > threshold; there m = 0, or m - threshold with SUBTRACT = 1
//
// A neuron takes 8 clocks of the register, K of the decay and 4 more. `start` is raised for one clock while `ready`, with
// the inputs of the next neuron; `done` is raised for one clock with its outputs. Neuron 0 follows neuron NEURONS - 1 at
// the next time step. `first` marks the first step of an image, at which potentials begin at 0; `last` its last step.
// Both memories are read a clock before they are needed, as block memories are.
`default_nettype none

module randhet_lif #(
    parameter NEURONS = 1024,
    parameter K = 8,               // bits of a decay, 1..12
    parameter F = 6,               // fractional bits of the potential, 0..16
    parameter SUBTRACT = 0,        // 1: a spike lowers the potential by the threshold; 0: to zero
    parameter PER_IMAGE = 0,       // 1: every step of an image uses the same draws
    parameter TABLE = "table.hex"  // 256 decays
) (
    input  wire               clock,
    input  wire               load,       // take `seed` as the register's state; begin with neuron 0
    input  wire        [31:0] seed,       // not 0
    input  wire               start,
    input  wire               first,
    input  wire               last,
    input  wire signed [31:0] sum,
    input  wire signed [23:0] bias,
    input  wire signed [23:0] threshold,
    output wire               ready,
    output reg                done,
    output reg                spike,
    output reg                saturated,  // the current x left 24 bits
    output reg         [7:0]  draw,
    output reg  signed [23:0] before,     // potential before the reset
    output reg  signed [23:0] after       // potential after it
);
    localparam IDLE = 2'd0, DRAW = 2'd1, DECAY = 2'd2, FIRE = 2'd3;
    localparam signed [48:0] TOP = 49'sd8388607;  // 2^23 - 1

    reg [K-1:0] decays [0:255];
    reg signed [23:0] potentials [0:NEURONS-1];
    initial $readmemh(TABLE, decays);

    reg [1:0]  state;
    reg [3:0]  count;
    reg [31:0] neuron;
    reg [31:0] register;           // shifts; its low byte is the draw after eight clocks
    reg [31:0] kept;               // its state at the beginning of an image's steps, with PER_IMAGE

    // x, limited to 24 bits
    wire signed [48:0] current = ({{17{sum[31]}}, sum} <<< F) + {{25{bias[23]}}, bias};
    wire above = current > TOP, below = current < -TOP;
    wire signed [23:0] x = above ? TOP[23:0] : below ? -TOP[23:0] : current[23:0];
    reg signed [23:0] held_x, held_threshold, stored;
    reg [K-1:0] entry;

    // acc <- (acc + (bit of A ? d : 0)) >> 1; d has 25 bits, acc and its sum 26
    reg signed [24:0] d;
    reg signed [25:0] acc;
    reg [K-1:0] decay;
    wire signed [25:0] added = acc + (decay[0] ? {d[24], d} : 26'sd0);

    // between m and x, so that it fits 24 bits
    wire signed [25:0] m = {{2{held_x[23]}}, held_x} + acc;

    wire fires = m > held_threshold;
    wire signed [23:0] reset = !fires ? m[23:0] : SUBTRACT != 0 ? m[23:0] - held_threshold : 24'sd0;

    assign ready = state == IDLE && !load;

    reg at_end, held_first, rewind;
    wire signed [23:0] potential = held_first ? 24'sd0 : stored;

    always @(posedge clock) begin
        done <= 1'b0;
        stored <= potentials[neuron];
        entry <= decays[register[7:0]];
        if (load) begin
            register <= seed;
            kept <= seed;
            neuron <= 0;
            state <= IDLE;
        end else case (state)
            IDLE: if (start) begin
                held_x <= x;
                held_threshold <= threshold;
                saturated <= above || below;
                at_end <= neuron == NEURONS - 1;
                held_first <= first;
                rewind <= PER_IMAGE != 0 && !last;
                count <= 4'd9;
                state <= DRAW;
            end
            DRAW: begin  // eight clocks, one to read the table, one to take what was read
                if (count > 1) register <= (register >> 1) ^ (register[0] ? 32'h80200003 : 32'h0);
                count <= count - 4'd1;
                if (count == 0) begin
                    draw <= register[7:0];
                    decay <= entry;
                    d <= {potential[23], potential} - {held_x[23], held_x};
                    acc <= 26'sd0;
                    count <= K;
                    state <= DECAY;
                end
            end
            DECAY: begin
                acc <= added >>> 1;
                decay <= decay >> 1;
                count <= count - 4'd1;
                if (count == 4'd1) state <= FIRE;
            end
            FIRE: begin
                spike <= fires;
                before <= m[23:0];
                after <= reset;
                potentials[neuron] <= reset;
                neuron <= at_end ? 0 : neuron + 1;
                done <= 1'b1;
                state <= IDLE;
                if (at_end && rewind) register <= kept;
                if (at_end && !rewind) kept <= register;
            end
        endcase
    end
endmodule
